"""A headless Chromium for tests: Debian's, driven by selenium; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

#: Of every piece of text that is seen: its contrast with what lies behind it, least first.
CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const parts = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const light = (rgb) => {
  const [r, g, b] = [...rgb].slice(0, 3).map((each) => {
    const c = each / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const found = parts(getComputedStyle(each).backgroundColor);
    if (found[3] > 0) return found;
  }
  return parts("white");
};
const told = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const element = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
  if (["SCRIPT", "STYLE"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  const [one, two] = [
    light(parts(element instanceof SVGElement ? style.fill : style.color)), light(behind(element)),
  ];
  const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  told.push([contrast, walk.currentNode.data.trim().slice(0, 40)]);
}
return told.sort((a, b) => a[0] - b[0]);
"""


class Browser:
    """Chromium, and what it says of a page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, width: int, scheme: str = "light", hash_: str = "") -> None:
        """Loads the page anew; what was logged before is forgotten."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri() + hash_)

    def run(self, script: str, *given: object) -> Any:
        return self.driver.execute_script(script, *given)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def requests(self) -> tuple[list[str], list[str]]:
        """The addresses asked for since ``open``, and why those that were stopped were."""
        logged = self.driver.get_log("performance")
        told = [json.loads(each["message"])["message"] for each in logged]
        asked = [
            each["params"]["request"]["url"]
            for each in told
            if each["method"] == "Network.requestWillBeSent"
        ]
        stopped = [
            each["params"].get("blockedReason", "")
            for each in told
            if each["method"] == "Network.loadingFailed"
        ]
        return asked, stopped

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            self.run("const d = document.documentElement; return d.scrollWidth - d.clientWidth")
        )


def why_missing() -> str:
    """What there has to be installed; "" where a browser can be started."""
    if not CHROMIUM or not DRIVER:
        return "no Chromium here: apt-get install chromium chromium-driver"
    if importlib.util.find_spec("selenium") is None:
        return "no selenium here: install weft[test]"
    return ""


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for told in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
        "--hide-scrollbars", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(told)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()

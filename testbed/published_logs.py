"""Small files in the shapes in which public logs are published; every row is invented.

Each holds rows that cannot be used: short ones, bad dates, literals that are none, unknown events.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson

from stream.contracts.fields import Json

DAY = 1_600_732_800_000  # 2020-09-22

HM_SALES = """t_dat,customer_id,article_id,price,sales_channel_id
2020-09-22,c0ffee,0700000001,0.0508,2
2020-09-22,c0ffee,0700000002,0.0169,1
22/09/2020,c0ffee,0700000002,0.0169,1
2020-09-22,c0ffee
2020-09-21,beef,0700000001,0.0508,2
2020-09-21,,0700000001,0.0508,2
"""
_ARTICLE = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,"
    "graphical_appearance_no,graphical_appearance_name,colour_group_code,colour_group_name,"
    "perceived_colour_value_id,perceived_colour_value_name,perceived_colour_master_id,"
    "perceived_colour_master_name,department_no,department_name,index_code,index_name,"
    "index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc\n"
)
HM_ARTICLES = (
    _ARTICLE
    + "0700000001,0700000,Tilda dress,265,Dress,Garment Full body,1010016,Solid,09,Teal,4,Dark,5,"
    'Turquoise,1676,Dresses,A,Ladieswear,1,Ladieswear,16,Everyday,1013,Dresses Ladies,"Knee-length,'
    ' in ""airy"" cotton."\n'
    + "0700000002,0700000,Ole cap,69,Cap,Accessories,1010016,Solid,10,Rust,3,Light,9,Orange,3946,"
    "Small Accessories,F,Menswear,3,Menswear,25,Men Accessories,1019,Accessories,\n"
    + "0700000003,0700000,short row\n"
)
REVIEWS_2014 = [
    b'{"reviewerID": "AX1", "asin": "B0X1", "reviewerName": "R", "helpful": [0, 0], "reviewText": '
    b'"Fine.", "overall": 5.0, "summary": "s", "unixReviewTime": 1400457600}',
    b'{"reviewerID": "AX1", "asin": "B0X2", "unixReviewTime": "soon"}',
    b'{"reviewerID": "AX2", "unixReviewTime": 1400457600}',
    b'{"reviewerID": "AX2", "asin": "B0X1", "unixReviewTime": 1400457600',
    b'{"reviewerID": "AX2", "asin": "B0X1", "unixReviewTime": 1400371200}',
]
META_2014 = [
    b"{'asin': 'B0X1', 'title': \"Nell's &quot;Dew&quot; cream\", 'price': 8.5, 'imUrl': "
    b"'http://example.invalid/1.jpg', 'related': {'also_bought': ['B0X2']}, 'salesRank': {'Beauty'"
    b": 9}, 'brand': 'Nell', 'categories': [['Beauty', 'Skin Care', 'Face'], ['Gifts']]}",
    b"{'asin': 'B0X2', 'description': 'No title \\xe9.', 'categories': [['Beauty']]}",
    b"{'asin': 'B0X3', 'title': __import__('os').getcwd()}",
    b"{'asin': 'B0X4', 'title': null}",
    b"{'title': 'nobody'}",
    b"{'asin': 'B0\\ud800', 'title': 'half a character'}",
    b"['asin', 'B0X5']",
]
REVIEWS_2023 = [
    {"rating": 5.0, "title": "t", "text": "x", "images": [], "asin": "B1A", "parent_asin": "B1",
     "user_id": "AE1", "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True},
    {"asin": "B1A", "user_id": "AE1", "timestamp": 1588687728923},
    {"asin": "B2", "parent_asin": "B2", "user_id": "AE2", "timestamp": 1488687728},
]  # fmt: skip
META_2023 = [
    {"main_category": "AMAZON FASHION", "title": "Ivo scarf", "average_rating": 4.1,
     "rating_number": 3, "features": ["warm"], "description": ["Soft.", "Long."], "price": "19.99",
     "images": [{"thumb": "t", "large": "http://example.invalid/l.jpg", "variant": "MAIN"}],
     "videos": [], "store": "Ivo", "categories": ["Clothing", "Scarves"], "details": {},
     "parent_asin": "B1", "bought_together": None},
    {"main_category": "AMAZON FASHION", "title": None, "price": None, "categories": [],
     "images": [], "store": None, "description": [], "parent_asin": "B2"},
]  # fmt: skip
ROCKET_EVENTS = """timestamp,visitorid,event,itemid,transactionid
1433221332117,7,view,355,
1433221332118,7,addtocart,355,
1433221332119,7,transaction,355,12
1433221332119,7,wish,355,
1433221332,8,view,355,
"""
ROCKET_1 = """timestamp,itemid,property,value
1435460400000,355,categoryid,20
1433041200000,355,categoryid,10
1433041200000,9,790,n552.000 639502
"""
ROCKET_2 = """timestamp,itemid,property,value
1433041200000,9,available,1
1433646000000,9,categoryid,30
soon,9,categoryid,31
1433646000000,,categoryid,31
"""
TAOBAO = """1,2268,2520,pv,1511544070
1,2268,2520,buy,1511561733
2,007,2521,fav,1511561734
2,7,2521,cart,1511572885
2,8,2522,view,1511572885
2,8,2522,pv,-1511572885
2,8,2522
"""


def hm(folder: Path) -> None:
    (folder / "transactions_train.csv").write_text(HM_SALES)
    (folder / "articles.csv").write_text(HM_ARTICLES)


def amazon2014(folder: Path) -> None:
    (folder / "reviews_Beauty_5.json.gz").write_bytes(gzip.compress(b"\n".join(REVIEWS_2014)))
    (folder / "meta_Beauty.json.gz").write_bytes(gzip.compress(b"\n".join(META_2014)))


def amazon2023(folder: Path) -> None:
    reviews = b"\n".join(map(orjson.dumps, REVIEWS_2023))
    (folder / "All_Beauty.jsonl.gz").write_bytes(gzip.compress(reviews))
    (folder / "meta_All_Beauty.jsonl").write_bytes(b"\n".join(map(orjson.dumps, META_2023)))


def retailrocket(folder: Path) -> None:
    (folder / "events.csv").write_text(ROCKET_EVENTS)
    (folder / "item_properties_part1.csv").write_text(ROCKET_1)
    (folder / "item_properties_part2.csv").write_text(ROCKET_2)
    (folder / "category_tree.csv").write_text("categoryid,parentid\n10,1\n")


def taobao(folder: Path) -> None:
    (folder / "UserBehavior.csv").write_text(TAOBAO)


WRITERS = {each.__name__: each for each in (hm, amazon2014, amazon2023, retailrocket, taobao)}


def lines(path: Path) -> list[Json]:
    """The rows of a compressed file."""
    return [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]

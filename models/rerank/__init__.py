"""The LLM as a reranker: prompt, likelihood, fusion, circuit breaker."""

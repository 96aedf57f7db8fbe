"""vLLM: its engine with vectors injected, requests in its terms, and how it is started. The only door to `vllm`."""

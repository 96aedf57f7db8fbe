"""Where rows come from: the Hub, and local files."""

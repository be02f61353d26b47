"""Charts of the report: what each draws, as tables and Vega-Lite, for the page and as files."""

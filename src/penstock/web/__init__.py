"""Pages, REST API and who may use them, as HTML and JSON of what `project` and `worker` return.

Belongs here: routes, permissions, forms, templates. Does not: any decision about a pipeline, and user code never.
"""

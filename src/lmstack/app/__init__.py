"""The command line and the web page: where the modules are wired together. Nothing imports app.

`cli.main` runs the commands of `commands`, `service.build_service` is what `lmstack up` serves,
`web` and `page` are the page. No names are exported here, so that starting a command loads only
what it uses.
"""

__all__ = ()

"""The command line and the web page: where the modules are wired together. Nothing imports app.

    cli       the commands, their options, output, help and failure; `cli.main` is the entry
    wiring    which class plays which part: models by name, indexes, what `lmstack up` serves
    page      the web page: its routes, files, pictures and uploads
    server    what `lmstack up` runs: the folder, its index, who may see what, sockets
    inspect   into models, vocabularies, vectors and machines, as figures and pictures

Imports run downwards in this order; `formats` and `drawing` are for all. No names are exported
here, so that starting a command loads only what it uses.
"""

__all__ = ()

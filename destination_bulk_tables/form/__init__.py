"""What the config may hold, as Airbyte's form shows it.

Data: `fields` makes single fields, `tables` and `delivery` are the parts every provider shares, and
`connection` puts these and the providers' own forms together. About the data: `published` is what
Airbyte is told, `reading` takes a filled-in form, `faults` says what does not fit, `naming` tells
how a setting is called. What a value means is decided in `config` and in the providers.
"""

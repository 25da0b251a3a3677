"""How results look in a terminal, and as JSON where the result has no JSON form of its own.

What enters: the library's own values. What leaves: something that rich can print, or plain values. Commands import
these modules when they run: unlike the commands themselves they may load torch.
"""

__all__: list[str] = []

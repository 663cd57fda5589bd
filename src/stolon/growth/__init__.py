"""Learn to bind and grow: one joint network that grows only where tasks conflict.

"Learn to Bind and Grow Neural Structures": a new task binds to the earlier task whose network conflicts least with the
one that it would have alone, shares that task's layers, and gets copies of those on which the two conflict most. How
much it grows is one number per task, the grow coefficient.
"""

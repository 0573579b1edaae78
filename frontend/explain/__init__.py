"""Why a function is computed as it is: told as text, measured, and as a page."""

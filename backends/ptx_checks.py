from hectorite.backends.ptx_watch import Watch
class Checker(Watch):
    def __init__(self, source, checks, code):
        super().__init__(source, checks)

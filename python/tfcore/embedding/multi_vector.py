"""placeholder"""
class MultiVectorEncoder: pass

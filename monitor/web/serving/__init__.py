"""TODO serving"""

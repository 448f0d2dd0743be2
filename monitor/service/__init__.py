"""TODO service"""

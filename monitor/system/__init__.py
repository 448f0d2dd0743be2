"""TODO system"""

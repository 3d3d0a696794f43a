"""Copies of files and images between two hosts: parallel streams, hashed on arrival, resumable."""

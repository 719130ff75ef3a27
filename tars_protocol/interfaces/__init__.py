"""The interfaces of TARS that this project serves or calls, one file each, as their .tars files declare them."""

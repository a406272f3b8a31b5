"""The stores of the test bed: real servers with their data in the folder of an instance."""

"""What runs inside a Job. Imports are kept lean: no kopf here."""

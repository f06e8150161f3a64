"""The history of the tables: Alembic revisions, in the order in which the applications grew.

Every step makes what is missing and leaves what is there. So one path makes an empty database,
takes on one that an application made before this package, and finishes one whose setup was killed
on a database that cannot roll its changes back.
"""

"""The history of the tables: Alembic revisions, in the order in which the applications grew.

Every step creates what is missing and keeps what exists. So one path creates the tables in an
empty database, adopts the tables of an application, and completes a migration that was killed on
a database without transactional DDL.
"""

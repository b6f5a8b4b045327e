/* romancy: durable workflows inside PostgreSQL. Built from sql/parts; do not edit the result. */
\echo Use "CREATE EXTENSION romancy" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

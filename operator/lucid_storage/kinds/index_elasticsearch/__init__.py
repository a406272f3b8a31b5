"""Index on Elasticsearch, a monthly series: all is pure but `kind`, which has the hands."""

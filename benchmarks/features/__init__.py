"""DFS features as of each seed's anchor, relann's and featuretools'."""

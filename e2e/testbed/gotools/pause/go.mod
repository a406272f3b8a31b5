module lucid.example/testbed/pause

go 1.24.0

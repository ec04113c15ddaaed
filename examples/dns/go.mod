module github.com/go-xsk/xsk/examples/dns

go 1.24.0

require (
	github.com/go-xsk/xsk v0.0.0
	github.com/stretchr/testify v1.11.1
	golang.org/x/net v0.46.0
)

require (
	github.com/aquasecurity/libbpfgo v0.6.0-libbpf-1.3 // indirect
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/sys v0.40.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/go-xsk/xsk => ../..

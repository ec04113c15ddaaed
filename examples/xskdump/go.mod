module github.com/go-xsk/xsk/examples/xskdump

go 1.24.0

require (
	github.com/go-xsk/xsk v0.0.0
	github.com/go-xsk/xsk/pcapfilter v0.0.0
	github.com/gopacket/gopacket v1.2.0
	github.com/stretchr/testify v1.11.1
	golang.org/x/sys v0.40.0
)

require (
	github.com/aquasecurity/libbpfgo v0.6.0-libbpf-1.3 // indirect
	github.com/cilium/ebpf v0.21.0 // indirect
	github.com/cloudflare/cbpfc v0.0.0-20240920015331-ff978e94500b // indirect
	github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/pmezard/go-difflib v1.0.1-0.20181226105442-5d4384ee4fb2 // indirect
	golang.org/x/net v0.46.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace (
	github.com/go-xsk/xsk => ../..
	github.com/go-xsk/xsk/pcapfilter => ../../pcapfilter
)

module github.com/go-xsk/xsk/netstack

go 1.26.3

replace github.com/go-xsk/xsk => ..

require github.com/go-xsk/xsk v0.0.0

require (
	github.com/aquasecurity/libbpfgo v0.6.0-libbpf-1.3 // indirect
	golang.org/x/exp v0.0.0-20250711185948-6ae5c78190dc // indirect
	golang.org/x/sys v0.43.0 // indirect
	golang.org/x/time v0.15.0 // indirect
	gvisor.dev/gvisor v0.0.0-20260527191743-a81fd9dd382e
)

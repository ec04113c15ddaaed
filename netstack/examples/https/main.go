// Https serves a page over TLS, or fetches one, straight from AF_XDP: net/http and
// crypto/tls as they are, on a TCP/IP stack in this program.
//
//	sudo https -d eth0 -ip 192.0.2.10/24 -cert page.pem
//	sudo https -d eth0 -ip 192.0.2.10/24 -get https://192.0.2.1/ -cacert page.pem
//
// The certificate is made at start, for the host's addresses; -cert says where it
// goes. On another machine, with a copy of it,
//
//	curl --cacert page.pem https://192.0.2.10/
//
// verifies it and shows the page. /bytes/N is as many bytes. To try it without
// another machine, as root in the repository (what netns starts reaches no module
// proxy, so build before):
//
//	go build -C netstack -o /tmp/https ./examples/https
//	scripts/netns bash
//	/tmp/https -d veth0 -ip 10.77.0.10/24 -cert /tmp/page.pem &
//	ip netns exec peer curl --noproxy '*' --cacert /tmp/page.pem https://10.77.0.10/
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-xsk/xsk/netstack/examples/internal/cmdline"
)

// options are the flags, and what tests want to know.
type options struct {
	*cmdline.Options
	cert, url, cacert string
	ready             func(net.Addr)
	out               io.Writer // what was fetched
}

func main() {
	flags := cmdline.New("https", "serves a page over TLS, or fetches one", 443)
	o := &options{out: os.Stdout}
	flags.StringVar(&o.cert, "cert", "", "`file` to write the server's certificate to")
	flags.StringVar(&o.url, "get", "", "fetch this `URL` instead of serving")
	flags.StringVar(&o.cacert, "cacert", "", "`file` of certificates to believe in, for -get; default the system's")
	o.Options = flags.Parse()
	ctx, stop := o.Context()
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "https:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) (err error) {
	network, err := o.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	fmt.Fprintln(os.Stderr, network)
	if o.url != "" {
		return fetch(ctx, network, o)
	}
	return serve(ctx, network, o)
}

// serve is a server like any other, but for where its listener comes from.
func serve(ctx context.Context, network cmdline.Network, o *options) error {
	listener, err := network.Listen("tcp", fmt.Sprintf(":%d", o.Port))
	if err != nil {
		return err
	}
	certificate, err := newCertificate("xsk.example", network.Addresses())
	if err != nil {
		return err
	}
	if o.cert != "" {
		if err := os.WriteFile(o.cert, certificate.pem, 0o644); err != nil {
			return err
		}
	}
	var served atomic.Uint64
	server := &http.Server{
		Handler:           counting(&served, handler()),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate.Certificate}},
		ReadHeaderTimeout: 10 * time.Second,
	}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		stopped <- server.Shutdown(patience) // answers that have begun are finished
	})()
	fmt.Printf("https: ready on %v\n", listener.Addr())
	if o.ready != nil {
		o.ready(listener.Addr())
	}
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	err = <-stopped
	fmt.Println(cmdline.Counts(network))
	fmt.Printf("https: served=%d\n", served.Load())
	return err
}

// handler knows nothing of AF_XDP.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "This page came over %s and %s to %s.\n", r.Proto, tls.VersionName(r.TLS.Version), r.RemoteAddr)
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "no number of bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, alphabet{}, n)
	})
	return mux
}

// alphabet is an endless one.
type alphabet struct{}

func (alphabet) Read(p []byte) (int, error) {
	for n := 0; n < len(p); n += 26 {
		copy(p[n:], "abcdefghijklmnopqrstuvwxyz")
	}
	if len(p) > 26 {
		return len(p) / 26 * 26, nil // so that the next begins with an a
	}
	return len(p), nil
}

func counting(n *atomic.Uint64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		n.Add(1)
	})
}

// fetch is a client like any other, but for who dials.
func fetch(ctx context.Context, network cmdline.Network, o *options) error {
	roots, err := trusted(o.cacert)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:       network.Dial,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(o.out, response.Body)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, cmdline.Counts(network))
	fmt.Fprintf(os.Stderr, "https: status=%d proto=%s bytes=%d\n", response.StatusCode, response.Proto, n)
	if response.StatusCode >= 400 {
		return fmt.Errorf("get %s: %s", o.url, response.Status)
	}
	return nil
}

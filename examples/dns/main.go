// Dns answers DNS queries for a few names through AF_XDP: a responder that
// writes each answer into the frame of its question.
//
//	sudo dns -d eth0 -name example.org=192.0.2.1 -name example.org=192.0.2.2
//
// It knows IPv4 addresses only, speaks UDP over IPv4 only, and refuses names
// that it was not given. Everything but UDP port 53 stays with the kernel.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

func main() {
	flags := cmdline.New("dns", "answers DNS queries for the names that are given", 3840)
	flags.DefaultPorts("53")
	names := zone{}
	flags.Func("name", "a `name=address` to answer with; may be repeated", names.add)
	options := flags.Parse()
	if len(names) == 0 {
		flags.Fail(errors.New("no names; -name example.org=192.0.2.1 gives one"))
	}
	ctx, stop := options.Context()
	defer stop()
	if err := run(ctx, options, names); err != nil {
		fmt.Fprintln(os.Stderr, "dns:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options, names zone) error {
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close()
	if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
		return err
	}
	queue, err := xsk.Open(o.Interface, o.Queue, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
	})
	if err != nil {
		return err
	}
	defer queue.Close()
	fmt.Println(queue)
	fmt.Printf("dns: ready mode=%v\n", program.Mode())

	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	meter := cmdline.NewMeter("dns")
	if err := serve(queue, names, o, meter); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	fmt.Println(cmdline.Filtered(program))
	fmt.Println(queue.Stats())
	fmt.Printf("dns: answered=%d seconds=%.3f qps=%.0f\n", meter.Packets, meter.Seconds(), meter.Rate(meter.Packets))
	return nil
}

// serve answers queries until the queue is closed, or -c of them are answered.
func serve(queue *xsk.Queue, names zone, o *cmdline.Options, meter *cmdline.Meter) error {
	frames := make([]xsk.Frame, o.Batch)
	for o.Count == 0 || meter.Packets < o.Count {
		n, err := queue.Receive(frames)
		if err != nil {
			return err
		}
		answers, bytes := frames[:0], 0
		for i := range frames[:n] {
			f := &frames[i] // not a copy: answer changes the length of Data
			if names.answer(f) {
				answers = append(answers, *f)
				bytes += f.Len()
			}
		}
		if _, err := queue.Send(answers); err != nil {
			return err
		}
		meter.Add(len(answers), bytes)
	}
	return nil
}

// A zone has the addresses of names, in lower case and with the final dot.
type zone map[string][][4]byte

// mostAddresses of the longest name fit the 512 bytes of an answer.
const mostAddresses = 14

func (z zone) add(text string) error {
	name, address, _ := strings.Cut(text, "=")
	name = strings.ToLower(strings.TrimSuffix(name, ".")) + "."
	ip, err := netip.ParseAddr(address)
	if _, bad := dnsmessage.NewName(name); bad != nil || err != nil || !ip.Is4() {
		return errors.New("it is a name, =, and an IPv4 address")
	}
	if len(z[name]) == mostAddresses {
		return fmt.Errorf("a name has %d addresses at most", mostAddresses)
	}
	z[name] = append(z[name], ip.As4())
	return nil
}

// answer turns a query into its answer, in the same frame. It reports false if
// the packet deserves none.
func (z zone) answer(f *xsk.Frame) bool {
	flow, query, err := packet.Parse(f.Data)
	if err != nil || flow.DstMAC.IsGroup() {
		return false
	}
	message, err := z.respond(query, f.Data[packet.HeaderLen:packet.HeaderLen])
	if err != nil {
		return false
	}
	// The message is in the frame already, unless it outgrew it. The headers
	// know its length, and the padding of a short packet is cut off.
	f.Data = append(f.Data[:packet.HeaderLen], message...)
	back := flow.Reverse()
	back.Put(f.Data)
	return true
}

// respond appends the response to query to buf, which may be query's own
// memory: the question is taken out of it first.
func (z zone) respond(query, buf []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil || header.Response {
		return nil, errors.New("not a query")
	}
	addresses, known := z[strings.ToLower(question.Name.String())]
	known = known && question.Class == dnsmessage.ClassINET
	reply := dnsmessage.Header{
		ID: header.ID, Response: true, OpCode: header.OpCode, RecursionDesired: header.RecursionDesired,
		Authoritative: known,
	}
	switch {
	case header.OpCode != 0:
		reply.RCode = dnsmessage.RCodeNotImplemented
	case !known:
		reply.RCode = dnsmessage.RCodeRefused
	}
	b := dnsmessage.NewBuilder(buf, reply)
	b.EnableCompression()
	errs := []error{b.StartQuestions(), b.Question(question), b.StartAnswers()}
	if reply.RCode == dnsmessage.RCodeSuccess && (question.Type == dnsmessage.TypeA || question.Type == dnsmessage.TypeALL) {
		for _, a := range addresses {
			h := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 60}
			errs = append(errs, b.AResource(h, dnsmessage.AResource{A: a}))
		}
	}
	message, err := b.Finish()
	return message, errors.Join(append(errs, err)...)
}

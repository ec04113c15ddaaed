// Unprivileged answers UDP packets with themselves in a process that has no
// privileges. Root keeps what needs them: it attaches the XDP program, opens the
// AF_XDP socket, and hands the descriptors of socket and XSKMAP over a unix
// socket to another process, which is nobody's and has no capability.
//
//	sudo unprivileged -d eth0 -udp 7
//
// That takes libxdp 1.4.0 or newer. An older one opens its sockets itself; with
// -raw the other process keeps CAP_NET_RAW for it, and nothing else.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

// other, in the environment, makes this process the one without privileges. It
// inherits the unix socket as descriptor 3, and nothing else.
const other = "UNPRIVILEGED_HALF"

func main() {
	if os.Getenv(other) != "" {
		end(unprivileged())
	}
	flags := cmdline.New("unprivileged", "answers UDP packets with themselves, without privileges", 3840)
	name := flags.String("user", "nobody", "`user` that the process without privileges runs as")
	raw := flags.Bool("raw", false, "let that process keep CAP_NET_RAW, for libxdp before 1.4.0")
	options := flags.Parse()
	ctx, stop := options.Context()
	defer stop()
	end(privileged(ctx, options, *name, *raw))
}

// end ends the program.
func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "unprivileged:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// privileged is root's half. It ends when the other one does.
func privileged(ctx context.Context, o *cmdline.Options, name string, raw bool) error {
	who, err := user.Lookup(name)
	if err != nil {
		return err
	}
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close() // the map lives as long as somebody has it open
	if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
		return err
	}
	ours, theirs, err := pair()
	if err != nil {
		return err
	}
	defer ours.Close()
	defer theirs.Close()
	process, err := start(who, raw, theirs)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = process.Process.Signal(syscall.SIGTERM) })()
	if err := handOver(ours, o, raw, program.FileDescriptor()); err != nil {
		_ = process.Process.Kill()
		return errors.Join(err, process.Wait())
	}
	return process.Wait()
}

// pair makes a unix socket that keeps messages apart.
func pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// start runs this program again as another user, for whom the kernel clears all
// capabilities but those in AmbientCaps.
func start(who *user.User, raw bool, theirs *os.File) (*exec.Cmd, error) {
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	process := exec.Command("/proc/self/exe")
	process.Env = append(os.Environ(), other+"=1")
	process.Stdout, process.Stderr = os.Stdout, os.Stderr
	process.ExtraFiles = []*os.File{theirs}
	process.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		Setpgid:    true, // Ctrl-C reaches it through us
	}
	if raw {
		process.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_RAW}
	}
	return process, process.Start()
}

// handOver sends the flags, and with them the descriptors: the XSKMAP and, unless
// the other process opens its own, an AF_XDP socket for this interface alone.
func handOver(ours *os.File, o *cmdline.Options, raw bool, xskmap int) error {
	message, err := json.Marshal(o)
	if err != nil {
		return err
	}
	fds := []int{xskmap}
	if !raw {
		socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		// The receiver has a copy. This one would keep the queue bound.
		defer unix.Close(socket)
		if err := unix.BindToDevice(socket, o.Interface); err != nil {
			return err
		}
		fds = append(fds, socket)
	}
	return unix.Sendmsg(int(ours.Fd()), message, unix.UnixRights(fds...), nil, 0)
}

// unprivileged is the other half: it has nothing but what it is handed.
func unprivileged() error {
	root := os.NewFile(3, "the socket to root's half")
	defer root.Close()
	o, fds, err := receive(root)
	if err != nil {
		return err
	}
	ctx, stop := o.Context()
	defer stop()
	go func() {
		_, _ = root.Read(make([]byte, 1)) // until root's half is gone, also killed
		stop()
	}()
	config := xsk.Config{
		UmemConfig:   xsk.UmemConfig{Frames: 1024, FrameSize: o.FrameSize()}, // fits the usual ulimit -l
		SocketConfig: xsk.SocketConfig{RxSize: 512, TxSize: 512, BindFlags: o.BindFlags()},
		XSKMap:       xsk.MapFD(fds[0]),
	}
	if len(fds) > 1 {
		config.UmemConfig.File = os.NewFile(uintptr(fds[1]), "the socket")
	}
	queue, err := xsk.Open(o.Interface, o.Queue, &config)
	// The queue has copies of its own.
	_ = unix.Close(fds[0])
	_ = config.UmemConfig.File.Close()
	if err != nil {
		return err
	}
	defer queue.Close()
	fmt.Println(queue)
	fmt.Printf("unprivileged: ready uid=%d capabilities=%#x\n", os.Getuid(), capabilities())

	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	meter := cmdline.NewMeter("unprivileged")
	if err := echo(queue, o, meter); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	fmt.Printf("unprivileged: answered=%d seconds=%.3f pps=%.0f\n", meter.Packets, meter.Seconds(), meter.Rate(meter.Packets))
	return nil
}

// receive takes the flags and the descriptors from the unix socket.
func receive(root *os.File) (*cmdline.Options, []int, error) {
	message, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(2*4))
	n, m, _, _, err := unix.Recvmsg(int(root.Fd()), message, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	headers, err := unix.ParseSocketControlMessage(control[:m])
	if err != nil || len(headers) != 1 {
		return nil, nil, fmt.Errorf("no descriptors came: %v", err)
	}
	fds, err := unix.ParseUnixRights(&headers[0])
	if err != nil {
		return nil, nil, err
	}
	o := new(cmdline.Options)
	return o, fds, json.Unmarshal(message[:n], o)
}

// capabilities are those that this process may use, a bit each.
func capabilities() uint64 {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	_ = unix.Capget(&header, &data[0])
	return uint64(data[0].Permitted|data[0].Effective) | uint64(data[1].Permitted|data[1].Effective)<<32
}

// echo answers packets until the queue is closed, or -c of them are answered.
func echo(queue *xsk.Queue, o *cmdline.Options, meter *cmdline.Meter) error {
	frames := make([]xsk.Frame, o.Batch)
	for o.Count == 0 || meter.Packets < o.Count {
		n, err := queue.Receive(frames)
		if err != nil {
			return err
		}
		answers, bytes := frames[:0], 0
		for i := range frames[:n] {
			f := &frames[i]
			if packet.TurnAround(f.Data) {
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

package packet

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"weir/pipeline"
)

// LiveConfig says what a Live captures.
type LiveConfig struct {
	Interface string // by name; "any" is all of them
	Filter    *Filter
	Buffer    int // bytes of the ring; 0: 32 MiB
	SnapLen   int // bytes of a packet that are kept; 0: all
	// Fanout joins the sockets of one process that share an interface: the kernel
	// gives each connection to one of them. 0: there is one socket.
	Fanout uint16
}

// Live captures from an interface through a ring that the kernel fills (TPACKET_V3).
// One goroutine calls Next and Close; Stats is for any.
type Live struct {
	fd       int
	ring     []byte
	blocks   int
	at       int // block
	left     int // packets of it that were not given out
	next     int // where in the ring the next one lies
	received atomic.Int64
	dropped  atomic.Int64
}

const (
	ringBlock   = 1 << 20
	ringFrame   = 1 << 11
	ringRetire  = 60 // ms until the kernel gives out a block that is not full
	defaultRing = 32 << 20
)

// ErrPrivilege is wrapped when the kernel does not let weir capture.
var ErrPrivilege = errors.New("capturing needs CAP_NET_RAW: give it with: setcap cap_net_raw+ep $(command -v weir), or AmbientCapabilities=CAP_NET_RAW in the systemd unit")

// OpenLive begins to capture. It needs CAP_NET_RAW, until it returns.
func OpenLive(cfg LiveConfig) (*Live, error) {
	fail := func(what string, err error) error {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			err = fmt.Errorf("%w; %w", err, ErrPrivilege)
		}
		return fmt.Errorf("capture on %s: %s: %w", cfg.Interface, what, err)
	}
	index := 0
	if cfg.Interface != "any" {
		i, err := net.InterfaceByName(cfg.Interface)
		if err != nil {
			return nil, fail("find interface", err)
		}
		index = i.Index
	}
	// No protocol yet: nothing comes before the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fail("open socket", err)
	}
	l := &Live{fd: fd}
	if what, err := l.setUp(cfg, index); err != nil {
		_ = l.Close()
		return nil, fail(what, err)
	}
	return l, nil
}

// setUp makes the ring and binds; what names the step that failed.
func (l *Live) setUp(cfg LiveConfig, index int) (what string, err error) {
	if err := unix.SetsockoptInt(l.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return "choose TPACKET_V3", err
	}
	size := cfg.Buffer
	if size == 0 {
		size = defaultRing
	}
	l.blocks = max(2, size/ringBlock)
	req := unix.TpacketReq3{
		Block_size: ringBlock, Block_nr: uint32(l.blocks), Frame_size: ringFrame,
		Frame_nr: uint32(l.blocks * ringBlock / ringFrame), Retire_blk_tov: ringRetire,
	}
	if err := unix.SetsockoptTpacketReq3(l.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return "make ring", err
	}
	if l.ring, err = unix.Mmap(l.fd, 0, l.blocks*ringBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return "map ring", err
	}
	if err := l.filter(cfg); err != nil {
		return "attach filter", err
	}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	if err := unix.Bind(l.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return "bind", err
	}
	if index != 0 {
		m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(l.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return "see all packets of the wire", err
		}
	}
	if cfg.Fanout != 0 {
		const hash, defragment = unix.PACKET_FANOUT_HASH, unix.PACKET_FANOUT_FLAG_DEFRAG
		if err := unix.SetsockoptInt(l.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, int(cfg.Fanout)|(hash|defragment)<<16); err != nil {
			return "share the interface", err
		}
	}
	return "", nil
}

func (l *Live) filter(cfg LiveConfig) error {
	f := cfg.Filter
	if f == nil {
		f = &Filter{}
	}
	snap := uint32(cfg.SnapLen)
	if snap == 0 {
		snap = MaxPacket
	}
	code, err := f.program(kernelOffsets(), snap)
	if err != nil {
		return err
	}
	raw := make([]unix.SockFilter, len(code))
	for i, c := range code {
		raw[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	return unix.SetsockoptSockFprog(l.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]})
}

// Next reads the next packet into p; its data is valid until the next call. false
// means that none came for about wait milliseconds.
func (l *Live) Next(p *Packet, wait int) (bool, error) {
	for {
		for l.left > 0 {
			if l.packet(p) {
				return true, nil
			}
		}
		if l.next != 0 {
			l.release()
		}
		if !l.taken() {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN | unix.POLLERR}}, wait)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return false, fmt.Errorf("wait for packets: %w", err)
			}
			if n <= 0 || !l.taken() {
				l.count()
				return false, nil
			}
		}
		d := l.head()
		l.left = int(d.Num_pkts)
		l.next = l.at*ringBlock + int(d.Offset_to_first_pkt)
	}
}

// head is the description of the block at hand.
func (l *Live) head() *unix.TpacketHdrV1 {
	// The union follows two 32-bit numbers, version and offset.
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&l.ring[l.at*ringBlock+8]))
}

// taken reports whether the kernel has given out the block at hand.
func (l *Live) taken() bool {
	return atomic.LoadUint32(&l.head().Block_status)&unix.TP_STATUS_USER != 0
}

// release gives the block back to the kernel.
func (l *Live) release() {
	atomic.StoreUint32(&l.head().Block_status, unix.TP_STATUS_KERNEL)
	l.at = (l.at + 1) % l.blocks
	l.next, l.left = 0, 0
	if l.at == 0 {
		l.count()
	}
}

// Hardware types of the interface that a packet came by.
const (
	hardwareLoopback = 772
	hardwareNone     = 0xfffe // tun
	hardwarePPP      = 512
	hardwareIPGRE    = 778
	hardwareTunnel   = 768
)

// packet takes the next packet of the block; false: it is to be passed over.
func (l *Live) packet(p *Packet) bool {
	at := l.next
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&l.ring[at]))
	l.left--
	l.next = at + int(h.Next_offset)
	from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&l.ring[at+int(unix.SizeofTpacket3Hdr+15)&^15]))
	link := LinkEthernet
	data := l.ring[at+int(h.Mac) : at+int(h.Mac)+int(h.Snaplen)]
	switch from.Hatype {
	case hardwareLoopback:
		if from.Pkttype == unix.PACKET_OUTGOING {
			return false // it comes again
		}
	case hardwareNone, hardwarePPP, hardwareIPGRE, hardwareTunnel:
		link = LinkRaw
		data = l.ring[at+int(h.Net) : at+int(h.Net)+int(h.Snaplen)-max(0, int(h.Net)-int(h.Mac))]
	}
	*p = Packet{Time: pipeline.Time(int64(h.Sec)*1e6 + int64(h.Nsec)/1e3), Data: data, Wire: max(int(h.Len), int(h.Snaplen)), Link: link}
	l.received.Add(1)
	return true
}

// count takes the kernel's counters, which begin anew each time.
func (l *Live) count() {
	if s, err := unix.GetsockoptTpacketStatsV3(l.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		l.dropped.Add(int64(s.Drops))
	}
}

// Stats is how many packets were received, and how many the kernel dropped because
// the ring was full.
func (l *Live) Stats() (received, dropped int64) { return l.received.Load(), l.dropped.Load() }

// Close ends the capture.
func (l *Live) Close() error {
	var err error
	if l.ring != nil {
		err = unix.Munmap(l.ring)
		l.ring = nil
	}
	return errors.Join(err, unix.Close(l.fd))
}

// ErrPartly is wrapped when not all threads gave up their rights.
var ErrPartly = errors.New("this program was built with cgo, so that only one of its threads could give them up: build with CGO_ENABLED=0")

// DropPrivileges gives up the right to open further sockets that capture, for the
// whole process and what it starts.
func DropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	const raw, admin = uint32(1) << unix.CAP_NET_RAW, uint32(1) << unix.CAP_NET_ADMIN
	if data[0].Permitted&(raw|admin) == 0 {
		return nil
	}
	data[0].Effective &^= raw | admin
	data[0].Permitted &^= raw | admin
	data[0].Inheritable &^= raw | admin
	if err := capsetAll(&head, &data[0]); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	return nil
}

//go:build !linux

package packet

import "errors"

// LiveConfig says what a Live captures.
type LiveConfig struct {
	Interface       string
	Filter          *Filter
	Buffer, SnapLen int
	Fanout          uint16
}

// Live captures from an interface, on Linux.
type Live struct{}

// ErrPrivilege is wrapped when weir may not capture.
var ErrPrivilege = errors.New("capturing live traffic needs Linux")

// OpenLive begins to capture.
func OpenLive(LiveConfig) (*Live, error) { return nil, ErrPrivilege }

// Next reads the next packet.
func (l *Live) Next(*Packet, int) (bool, error) { return false, ErrPrivilege }

// Stats counts packets.
func (l *Live) Stats() (received, dropped int64) { return 0, 0 }

// Close ends the capture.
func (l *Live) Close() error { return nil }

// ErrPartly is wrapped when not all threads gave up their rights.
var ErrPartly = errors.New("this program was built with cgo, so that only one of its threads could give them up: build with CGO_ENABLED=0")

// DropPrivileges has nothing to drop.
func DropPrivileges() error { return nil }

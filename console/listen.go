package console

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Config is the section console of weir.yaml.
type Config struct {
	Listen string `yaml:"listen"` // HOST:PORT, of loopback
}

// DefaultConfig listens on this machine's port 7380.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:7380"} }

// Validate returns what is wrong, nil for nothing.
func (c Config) Validate() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("console.listen %q: %w", c.Listen, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("console.listen %q: the port %q is no number up to 65535", c.Listen, port)
	}
	if ip := net.ParseIP(host); !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
		return c.refused()
	}
	return nil
}

// Host is the name or address in Listen.
func (c Config) Host() string { return hostOf(c.Listen) }

func (c Config) refused() error {
	return fmt.Errorf("console.listen %q: the interface asks for no password yet, so it listens on loopback only (127.0.0.1 or ::1)", c.Listen)
}

// Open listens at c.Listen.
func (c Config) Open() (net.Listener, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("console.listen: %w; choose another with --listen", err)
	}
	// What localhost means is up to the machine.
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		_ = l.Close()
		return nil, c.refused()
	}
	return l, nil
}

// hostOf returns the host of HOST, HOST:PORT, [HOST] or [HOST]:PORT in lower
// case, "" for what is none of these.
func hostOf(s string) string {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return ""
		}
		host = h
	} else if h, ok := strings.CutPrefix(s, "["); ok {
		if host, ok = strings.CutSuffix(h, "]"); !ok {
			return ""
		}
	}
	return strings.ToLower(host)
}

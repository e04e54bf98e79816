package console

import (
	"net"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestListenAddresses(t *testing.T) {
	f := func(listen, want string) {
		t.Helper()
		err := Config{Listen: listen}.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", listen, err, want)
		}
	}
	f(DefaultConfig().Listen, "")
	f("127.0.0.1:0", "")
	f("127.1.2.3:7380", "")
	f("[::1]:7380", "")
	f("localhost:7380", "")
	f("", "missing port")
	f("7380", "missing port")
	f("127.0.0.1", "missing port")
	f("127.0.0.1:", "is no number")
	f("127.0.0.1:http", "is no number")
	f("127.0.0.1:65536", "is no number")
	f("127.0.0.1:-1", "is no number")
	for _, open := range []string{":7380", "0.0.0.0:7380", "[::]:7380", "192.0.2.1:7380", "example.com:7380", "localhost.example.com:7380", "127.0.0.1.example.com:1"} {
		f(open, "is open to others: give tls")
	}
}

func TestOpen(t *testing.T) {
	log := zap.NewNop()
	if _, err := (Config{Listen: "0.0.0.0:0"}).Open(log); err == nil {
		t.Error("it listens to everyone")
	}
	for _, listen := range []string{"127.0.0.1:0", "localhost:0"} {
		c := Config{Listen: listen}
		l, err := c.Open(log)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			t.Errorf("%s listens at %s", listen, l.Addr())
		}
		if !isOurs(l.Addr().String(), c.Hosts()) || !isOurs(listen, c.Hosts()) {
			t.Errorf("it does not answer at %s or %s", l.Addr(), listen)
		}
		if _, err := (Config{Listen: l.Addr().String()}).Open(log); err == nil || !strings.Contains(err.Error(), "choose another with --listen") {
			t.Errorf("a taken address: %v", err)
		}
	}
}

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// place is where client and server are, and where they are listened to.
type place struct {
	address, device, filter string
	client, server          string // network namespaces; "" is this one
	clean                   [][]string
}

func inside(namespace string, command ...string) *exec.Cmd {
	if namespace != "" {
		command = append([]string{"ip", "netns", "exec", namespace}, command...)
	}
	return exec.Command(command[0], command[1:]...)
}

func (p place) inClient(command ...string) error {
	c := inside(p.client, command...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

func (p place) close() {
	for _, c := range p.clean {
		_ = exec.Command(c[0], c[1:]...).Run()
	}
}

// openTunnel makes two namespaces that reach each other through VXLAN over a bridge.
func openTunnel() (p place, err error) {
	p = place{
		address: "10.99.1.2:80", device: "wirebr", filter: "udp port 4789", client: "wirec", server: "wires",
		clean: [][]string{{"ip", "netns", "del", "wirec"}, {"ip", "netns", "del", "wires"}, {"ip", "link", "del", "wirebr"}},
	}
	steps := `ip netns add wirec
ip netns add wires
ip link add wirebr type bridge
ip link set wirebr up
ip link add wirec0 type veth peer name eth0 netns wirec
ip link add wires0 type veth peer name eth0 netns wires
ip link set wirec0 master wirebr up
ip link set wires0 master wirebr up
ip -n wirec addr add 10.98.0.1/24 dev eth0
ip -n wires addr add 10.98.0.2/24 dev eth0
ip -n wirec link set eth0 up
ip -n wires link set eth0 up
ip -n wirec link set lo up
ip -n wires link set lo up
ip -n wirec link add vx0 type vxlan id 4242 remote 10.98.0.2 local 10.98.0.1 dstport 4789 dev eth0
ip -n wires link add vx0 type vxlan id 4242 remote 10.98.0.1 local 10.98.0.2 dstport 4789 dev eth0
ip -n wirec addr add 10.99.1.1/24 dev vx0
ip -n wires addr add 10.99.1.2/24 dev vx0
ip -n wirec link set vx0 up
ip -n wires link set vx0 up`
	for step := range strings.Lines(steps) {
		words := strings.Fields(step)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			p.close()
			return p, fmt.Errorf("%s: %w: %s", strings.TrimSpace(step), err, out)
		}
	}
	return p, nil
}

// process is a program that runs beside this one.
type process struct {
	cmd    *exec.Cmd
	out    *bytes.Buffer
	signal os.Signal
	over   bool
}

func start(signal os.Signal, c *exec.Cmd) (*process, error) {
	p := &process{cmd: c, out: &bytes.Buffer{}, signal: signal}
	c.Stdout, c.Stderr = p.out, p.out
	return p, c.Start()
}

func (p *process) stop() error {
	if p.over {
		return nil
	}
	p.over = true
	_ = p.cmd.Process.Signal(p.signal)
	err := p.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil // by the signal
	}
	return err
}

const serverConf = `worker_processes 1; daemon off; error_log stderr error; pid DIR/nginx.pid;
events { worker_connections 1024; }
http {
  log_format wire escape=json '{"id":"$arg_n","remote_addr":"$remote_addr","method":"$request_method","host":"$host","path":"$request_uri","query":"$args","status":$status,"bytes":$body_bytes_sent,"agent":"$http_user_agent","referer":"$http_referer","login_user":"$sent_http_x_user","duration":$request_time}';
  access_log DIR/access.json wire buffer=64k;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  keepalive_requests 500; gzip on; gzip_min_length 200; gzip_types application/json;
  default_type text/html;
  server {
    listen LISTEN; root DIR/www;
    location /api/ { default_type application/json; return 200 '{"ok":true,"items":[1,2,3,4,5,6,7,8,9,10],"text":"REPEAT"}'; }
    location /login { add_header X-User $arg_u always; return 401 'no'; }
    location /gone { return 404; }
    location /moved { return 302 /api/here; }
  }
}
`

// frontConf speaks HTTP/2 in front of what serverConf says: so that bodies are read,
// which a client does not send any more once it has the answer.
const frontConf = `  server {
    listen ADDRESS http2SEAL;
    location / { proxy_pass http://unix:DIR/behind.sock; proxy_set_header Host $http_host; proxy_redirect off; }
  }
  server {
    access_log off; gzip off;
`

func startServer(dir string, p place, o *options) (*process, error) {
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	for name, size := range map[string]int{"small.html": 700, "page.html": 9000, "large.bin": 120000} {
		if err := os.WriteFile(filepath.Join(dir, "www", name), bytes.Repeat([]byte("weir sees "), size/10), 0o644); err != nil {
			return nil, err
		}
	}
	conf, listen, seal := serverConf, p.address, ""
	if o.tls {
		if err := writeCertificate(dir); err != nil {
			return nil, err
		}
		seal = fmt.Sprintf(" ssl; ssl_certificate %s/cert.pem; ssl_certificate_key %s/key.pem", dir, dir)
		listen += seal
	}
	if o.h2 {
		conf = strings.Replace(conf, "  server {\n", frontConf, 1)
		listen = "unix:" + dir + "/behind.sock"
	}
	conf = strings.NewReplacer("DIR", dir, "ADDRESS", p.address, "SEAL", seal, "LISTEN", listen, "REPEAT", strings.Repeat("weir sees ", 60)).Replace(conf)
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	s, err := start(syscall.SIGQUIT, inside(p.server, "nginx", "-c", name, "-p", dir))
	if err != nil {
		return nil, err
	}
	for range 100 {
		probe := inside(p.client, "bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(p.address, ":", "/", 1))
		if probe.Run() == nil {
			return s, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = s.stop()
	return nil, fmt.Errorf("nginx does not answer: %s", s.out)
}

// writeCertificate makes the server's.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{"shop.example"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

func startDump(p place, pcap string) (*process, error) {
	d, err := start(syscall.SIGTERM, exec.Command("tcpdump", "-i", p.device, "-w", pcap, "-s", "0", "-B", "262144", "-Z", "root", p.filter))
	if err != nil {
		return nil, err
	}
	for range 100 {
		if fi, err := os.Stat(pcap); err == nil && fi.Size() > 0 {
			return d, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return d, nil
}

package services

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kafkaJars are what a broker needs of Maven Central: group, artifact, version
// and SHA-256, one a line.
//
//go:embed kafka.jars
var kafkaJars string

// The one user of SecureAddress.
const (
	KafkaUser     = "weir"
	KafkaPassword = "n0-secret"
)

const (
	kafkaVersion = "3.9.1"
	// kafkaWithin is how long a broker may take to answer; it takes some five
	// seconds on an idle machine.
	kafkaWithin = 90 * time.Second
)

// KafkaToken is a token that SecureAddress takes by OAUTHBEARER: it is not
// signed, lasts until 2100, and says KafkaUser.
const KafkaToken = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3ZWlyIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDB9."

// Kafka is a broker and controller (KRaft), with its data in a directory.
type Kafka struct {
	dir     string
	java    string
	classes string
	ports   []int
	cmd     *exec.Cmd
	ended   chan struct{}
}

// NewKafka makes a broker's data in dir, which is empty, and starts it. Without
// Java 17, or Maven to fetch it with, the error wraps ErrAbsent.
func NewKafka(dir string) (*Kafka, error) {
	list, err := NewKafkaCluster(dir, 1)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// NewKafkaCluster is NewKafka of n brokers, each a process.
func NewKafkaCluster(dir string, n int) ([]*Kafka, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("find java: %w: install a JDK or JRE, 17 or newer", ErrAbsent)
	}
	jars, err := fetch("kafka-"+kafkaVersion, kafkaJars)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3 * n)
	if err != nil {
		return nil, err
	}
	var list []*Kafka
	var voters []string
	for i := range n {
		k := &Kafka{dir: filepath.Join(dir, strconv.Itoa(i+1)), java: java, classes: filepath.Join(jars, "*"), ports: ports[3*i : 3*i+3]}
		list = append(list, k)
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, k.ports[1]))
	}
	for i, k := range list {
		if err := k.format(i+1, n, strings.Join(voters, ",")); err != nil {
			return nil, err
		}
	}
	errs := make(chan error, n)
	for _, k := range list {
		go func() { errs <- k.Start() }()
	}
	var all []error
	for range list {
		all = append(all, <-errs)
	}
	if err := errors.Join(all...); err != nil {
		for _, k := range list {
			if k.cmd != nil {
				k.Kill()
			}
		}
		return nil, err
	}
	return list, nil
}

// format makes the data of the broker id of n.
func (k *Kafka) format(id, n int, voters string) error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	pair := filepath.Join(k.dir, "broker.pem")
	if err := writeCertificate(k.CAFile(), pair); err != nil {
		return err
	}
	text := fmt.Sprintf(`process.roles=broker,controller
node.id=%[8]d
controller.quorum.voters=%[9]s
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d,SECURE://127.0.0.1:%[3]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d,SECURE://127.0.0.1:%[3]d
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%[5]s="%[6]s";
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
ssl.keystore.type=PEM
ssl.keystore.location=%[7]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=%[4]s
auto.create.topics.enable=false
offsets.topic.replication.factor=%[10]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
`, k.ports[0], k.ports[1], k.ports[2], filepath.ToSlash(filepath.Join(k.dir, "data")), KafkaUser, KafkaPassword, filepath.ToSlash(pair), id, voters, n)
	if err := os.WriteFile(k.config(), []byte(text), 0o600); err != nil {
		return err
	}
	format := exec.Command(k.java, "-cp", k.classes, "kafka.tools.StorageTool", "format", "-t", "d2Vpci1zZXJ2aWNlcy0xMQ", "-c", k.config(),
		"--add-scram", "SCRAM-SHA-256=[name="+KafkaUser+",password="+KafkaPassword+"]", "--add-scram", "SCRAM-SHA-512=[name="+KafkaUser+",password="+KafkaPassword+"]")
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("format %s: %w\n%s", k.dir, err, out)
	}
	return nil
}

// jar is a line of kafkaJars.
type jar struct{ group, artifact, version, sum string }

func (j jar) file() string { return j.artifact + "-" + j.version + ".jar" }

// fetch returns the directory with the jars of a list; those that it lacks are
// fetched by Maven, from where it is set up to.
func fetch(name, list string) (dir string, err error) {
	if dir, err = cacheDir(name); err != nil {
		return "", err
	}
	var missing []jar
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) != 4 {
			return "", fmt.Errorf("read the jars of %s: %q is no jar", name, line)
		}
		j := jar{f[0], f[1], f[2], f[3]}
		if data, err := os.ReadFile(filepath.Join(dir, j.file())); err != nil || hashOf(data) != j.sum {
			missing = append(missing, j)
		}
	}
	if len(missing) == 0 {
		return dir, nil
	}
	return dir, fetchJars(dir, missing)
}

// fetchJars puts jars into dir, each whole: several tests may fetch at a time.
func fetchJars(dir string, jars []jar) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("find mvn: %w: install Maven, which fetches what services are made of", ErrAbsent)
	}
	work, err := os.MkdirTemp(dir, "fetch")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var pom strings.Builder
	pom.WriteString("<project><modelVersion>4.0.0</modelVersion><groupId>weir</groupId><artifactId>services</artifactId><version>1</version><dependencies>\n")
	for _, j := range jars {
		fmt.Fprintf(&pom, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n", j.group, j.artifact, j.version)
	}
	pom.WriteString("</dependencies></project>\n")
	file := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(file, []byte(pom.String()), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, mvn, "-B", "-q", "-f", file, "dependency:copy-dependencies", "-DexcludeTransitive=true", "-DoutputDirectory="+work)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch jars: %w: %w\n%s", ErrAbsent, err, out)
	}
	for _, j := range jars {
		from := filepath.Join(work, j.file())
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("fetch %s: %w", j.file(), err)
		}
		if got := hashOf(data); got != j.sum {
			return fmt.Errorf("fetch %s: its SHA-256 is %s, want %s", j.file(), got, j.sum)
		}
		if err := os.Rename(from, filepath.Join(dir, j.file())); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kafka) config() string { return filepath.Join(k.dir, "server.properties") }

// Address is HOST:PORT, the same over restarts.
func (k *Kafka) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(k.ports[0])) }

// SecureAddress is HOST:PORT where the broker takes TLS with a certificate of
// CAFile, and KafkaUser by any mechanism.
func (k *Kafka) SecureAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(k.ports[2]))
}

// CAFile holds the authority of the broker's certificate.
func (k *Kafka) CAFile() string { return filepath.Join(k.dir, "ca.pem") }

// Start starts the broker again after Kill or Stop, and returns once it
// listens.
func (k *Kafka) Start() error {
	out, err := os.OpenFile(filepath.Join(k.dir, "broker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(k.java, "-Xmx256m", "-cp", k.classes, "kafka.Kafka", k.config())
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, k.dir
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	k.cmd, k.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for end := time.Now().Add(kafkaWithin); time.Now().Before(end); {
		conn, err := net.DialTimeout("tcp", k.Address(), time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(out.Name())
			return fmt.Errorf("the broker ended at once:\n%s", text[max(0, len(text)-4096):])
		case <-time.After(50 * time.Millisecond):
		}
	}
	k.Kill()
	return fmt.Errorf("the broker does not listen on %s", k.Address())
}

// Pid is the broker's process.
func (k *Kafka) Pid() int { return k.cmd.Process.Pid }

// Ended reports whether the broker has ended, by itself or not.
func (k *Kafka) Ended() bool {
	select {
	case <-k.ended:
		return true
	default:
		return false
	}
}

// Kill ends the broker at once.
func (k *Kafka) Kill() {
	_ = k.cmd.Process.Kill()
	<-k.ended
}

// Stop ends the broker as an operator would.
func (k *Kafka) Stop() error {
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-k.ended:
		return nil
	case <-time.After(30 * time.Second):
		k.Kill()
		return errors.New("the broker did not stop within 30 s")
	}
}

package kafka

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestMechanisms(t *testing.T) {
	for _, name := range append(Mechanisms(), "") {
		c := Cluster{Mechanism: name, User: "u", Password: "p"}
		d, err := c.dialer()
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if (d.SASLMechanism != nil) != (name != "") {
			t.Errorf("%q: mechanism %v", name, d.SASLMechanism)
		}
		if name != "" && !strings.EqualFold(d.SASLMechanism.Name(), name) {
			t.Errorf("%q is called %q", name, d.SASLMechanism.Name())
		}
	}
	c := Cluster{Mechanism: "md5"}
	if _, err := NewTopic(TopicConfig{Cluster: c}); err == nil || !strings.Contains(err.Error(), "md5") {
		t.Errorf("an unknown mechanism: %v", err)
	}
}

// TestNobodyThere: every broker is tried and named, and it ends in time.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := Cluster{Brokers: []string{closed, "127.0.0.1:1"}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = c.Partitions(ctx, "web")
	if err == nil || !strings.Contains(err.Error(), closed) || !strings.Contains(err.Error(), "127.0.0.1:1:") || !strings.Contains(err.Error(), "topic web") {
		t.Errorf("%v", err)
	}
	if _, _, err := c.bounds(ctx, "web", 0, time.Time{}); err == nil {
		t.Error("offsets without a broker")
	}
	topic, err := NewTopic(TopicConfig{Cluster: c, Topic: "web", Group: "g", Partition: func(int) Partition { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	stop()
	if err := topic.Run(run); err != nil {
		t.Errorf("Run after its context ended: %v", err)
	}
}

// TestLose: what is gone is told once, however often the group is dealt.
func TestLose(t *testing.T) {
	var told []int64
	topic, err := NewTopic(TopicConfig{Lost: func(_ int, n int64) { told = append(told, n) }})
	if err != nil {
		t.Fatal(err)
	}
	topic.lose(1, 5, 8)
	topic.lose(1, 5, 8)
	topic.lose(1, 5, 10)
	topic.lose(2, 0, 1)
	if len(told) != 3 || told[0] != 3 || told[1] != 2 || told[2] != 1 {
		t.Errorf("told of %v, want 3, 2, 1", told)
	}
}

package main

import (
	"fmt"
	"io"
	"time"
)

// costing are who costs processor time, in the order in which data flows.
func costing() []string {
	return []string{"collect", "detect", "correlate", "alert", "store", "serve", "brokers", "clickhouse"}
}

// spent is the processor time that roles and servers have had.
func (m *measured) spent(list []*process) map[string]time.Duration {
	cpu := map[string]time.Duration{}
	for _, p := range list {
		cpu[p.role] += cpuOf(p.cmd.Process.Pid)
	}
	for _, b := range m.brokers {
		cpu["brokers"] += cpuOf(b.Pid())
	}
	if m.clickhouse != nil {
		cpu["clickhouse"] = cpuOf(m.clickhouse.Pid())
	}
	return cpu
}

func spentSince(now, before map[string]time.Duration) map[string]time.Duration {
	for who := range now {
		now[who] -= before[who]
	}
	return now
}

// printCosts prints what a line costs and, where an idle fleet was measured, what
// it costs beyond that.
func (m *measured) printCosts(out io.Writer, list []*process, working map[string]time.Duration, all time.Duration, idle map[string]time.Duration, idled time.Duration) {
	count := map[string]int{"brokers": len(m.brokers)}
	if m.clickhouse != nil {
		count["clickhouse"] = 1
	}
	for _, p := range list {
		count[p.role]++
	}
	var sum, rest time.Duration
	for _, who := range costing() {
		if count[who] == 0 {
			continue
		}
		sum += working[who]
		fmt.Fprintf(out, "%-10s %d processes  %6.2f µs of CPU a line", who, count[who], micros(working[who], m.lines))
		if idled > 0 {
			beyond := working[who] - time.Duration(float64(idle[who])*all.Seconds()/idled.Seconds())
			rest += beyond
			fmt.Fprintf(out, "; idle %5.1f ms a second, beyond that %6.2f µs a line", float64(idle[who].Microseconds())/1e3/idled.Seconds(), micros(beyond, m.lines))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%-10s              %6.2f µs of CPU a line", "together", micros(sum, m.lines))
	if idled > 0 {
		fmt.Fprintf(out, ", %.2f beyond idling", micros(rest, m.lines))
	}
	fmt.Fprintln(out)
}

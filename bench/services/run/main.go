// Run starts a service for as long as it is not interrupted, and prints where
// it listens:
//
//	go run ./bench/services/run kafka
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"weir/bench/services"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) != 1 || args[0] != "kafka" {
		return fmt.Errorf("which service? there is kafka")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	dir, err := os.MkdirTemp("", "weir-kafka")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	k, err := services.NewKafka(dir)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, "kafka", k.Address()); err != nil {
		return err
	}
	<-stop
	return k.Stop()
}

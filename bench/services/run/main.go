// Run starts a service for as long as it is not interrupted, and prints where
// it listens:
//
//	go run ./bench/services/run kafka
//	go run ./bench/services/run opensearch
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
	if len(args) != 1 || args[0] != "kafka" && args[0] != "opensearch" {
		return fmt.Errorf("which service? there are kafka and opensearch")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	dir, err := os.MkdirTemp("", "weir-"+args[0])
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	end, where, err := start(args[0], dir)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, args[0], where); err != nil {
		return err
	}
	<-stop
	return end()
}

// start starts a service with its data in dir; end stops it.
func start(name, dir string) (end func() error, where string, err error) {
	if name == "opensearch" {
		s, err := services.NewOpenSearch(dir)
		if err != nil {
			return nil, "", err
		}
		return s.Stop, s.URL(), nil
	}
	k, err := services.NewKafka(dir)
	if err != nil {
		return nil, "", err
	}
	return k.Stop, k.Address(), nil
}

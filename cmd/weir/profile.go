package main

import (
	"os"
	"runtime/pprof"
)

// profileTo writes a CPU profile to f until stop is called.
func profileTo(f *os.File) (stop func(), err error) {
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

//go:build !linux

package detectors

import "unsafe"

func adviseHuge(unsafe.Pointer, uintptr) {}

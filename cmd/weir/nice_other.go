//go:build !unix

package main

func beNice(int) {}

// niceThread does nothing here.
func niceThread() {}

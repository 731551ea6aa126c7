//go:build !race

package server

// detectorOverhead is nothing without the race detector.
const detectorOverhead = 0

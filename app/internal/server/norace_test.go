//go:build !race

package server

// detectorOverhead is 0 without the race detector.
const detectorOverhead = 0

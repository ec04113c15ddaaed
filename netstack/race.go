//go:build race

package netstack

const raceDetector = true

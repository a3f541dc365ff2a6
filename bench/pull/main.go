// Command pull has many clients at once fetch all paths of a list, as go commands do: each with its
// own connections, two requests at a time, or as many as -each says.
//
//	pull -n 200 URL LIST
//
// LIST has one path a line. pull prints the number of failures, and the rate. A body fails when it
// has another length than announced, or differs from that of the first client.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	n := flag.Int("n", 200, "clients")
	each := flag.Int("each", 2, "requests at a time of each client")
	limit := flag.Duration("limit", 5*time.Minute, "when to give up")
	flag.Parse()
	text, err := os.ReadFile(flag.Arg(1))
	if err != nil {
		log.Fatal(err)
	}
	paths := strings.Fields(string(text))
	var bytes, requests, failed atomic.Int64
	var sums sync.Map
	start := time.Now()
	var wg sync.WaitGroup
	for range *n {
		mine := rand.Perm(len(paths))
		queue := make(chan string)
		tr := &http.Transport{MaxIdleConnsPerHost: *each}
		client := &http.Client{Transport: tr, Timeout: *limit}
		go func() {
			for _, i := range mine {
				queue <- paths[i]
			}
			close(queue)
		}()
		for range *each {
			wg.Go(func() {
				buf := make([]byte, 64<<10)
				for p := range queue {
					requests.Add(1)
					m, sum, err := get(client, flag.Arg(0)+p, buf)
					if known, there := sums.LoadOrStore(p, sum); err == nil && there && known != sum {
						err = fmt.Errorf("%s: another body than another client's", p)
					}
					bytes.Add(m)
					if err != nil && failed.Add(1) < 5 {
						log.Print(err)
					}
				}
			})
		}
		defer tr.CloseIdleConnections()
	}
	wg.Wait()
	took := time.Since(start).Seconds()
	fmt.Printf("%d clients: %d requests, %d failed, %.1f GB in %.1f s: %.0f requests/s, %.0f MB/s\n",
		*n, requests.Load(), failed.Load(), float64(bytes.Load())/1e9, took,
		float64(requests.Load())/took, float64(bytes.Load())/1e6/took)
	if failed.Load() > 0 {
		os.Exit(1)
	}
}

// hashed is how many bytes of a body are compared.
const hashed = 64 << 10

// get reads a body, and returns its length and a hash of its beginning and length. It does not hash
// all of a large body, so that this program leaves the machine to the server.
func get(client *http.Client, url string, buf []byte) (n int64, sum [32]byte, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, sum, err
	}
	defer resp.Body.Close()
	h := sha256.New()
	for {
		k, err := resp.Body.Read(buf)
		h.Write(buf[:max(0, min(int64(k), hashed-n))])
		n += int64(k)
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, sum, fmt.Errorf("%s: after %d bytes: %w", url, n, err)
		}
	}
	if resp.StatusCode != http.StatusOK || n != resp.ContentLength {
		return n, sum, fmt.Errorf("%s: %s, %d of %d bytes", url, resp.Status, n, resp.ContentLength)
	}
	fmt.Fprint(h, n)
	return n, [32]byte(h.Sum(nil)), nil
}

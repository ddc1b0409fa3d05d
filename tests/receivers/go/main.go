// A receiver on net/http. Checks each signature (Standard Webhooks 1.0.0), appends "id bytes" to its ledger and
// answers 204; 401 for a bad signature. Prints its port as JSON and ends when its standard input does.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
)

type receiver struct {
	key    []byte
	ledger *os.File
}

func (r *receiver) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	if request.Method != http.MethodPost || !r.signed(request.Header, body) {
		http.Error(answer, "bad signature", http.StatusUnauthorized)
		return
	}
	// One write per line: O_APPEND keeps the lines of concurrent requests apart.
	line := fmt.Sprintf("%s %d\n", request.Header.Get("Hook-Delivery"), len(body))
	if _, err := r.ledger.WriteString(line); err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	answer.WriteHeader(http.StatusNoContent)
}

func (r *receiver) signed(header http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, r.key)
	fmt.Fprintf(mac, "%s.%s.", header.Get("webhook-id"), header.Get("webhook-timestamp"))
	mac.Write(body)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, found := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(found), []byte(expected)) {
			return true
		}
	}
	return false
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Args[2], "whsec_"))
	if err != nil {
		log.Fatal(err)
	}
	ledger, err := os.OpenFile(os.Args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := json.NewEncoder(os.Stdout).Encode(map[string]int{"port": port}); err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, &receiver{key, ledger})) }()
	io.Copy(io.Discard, os.Stdin)
}

// Package review tells the person who signs a bundle, and the person who imports it, what it holds:
// facts about the carried versions, and what is found when they are compared with a vulnerability
// database. It reads bundles and knows no command.
package review

# A Windows client, for good: what "modmirror env --shell powershell URL" prints sets one shell, this sets the user.
# .\client.ps1 http://goproxy.corp.example:8080
param([Parameter(Mandatory)] [string] $Url)
$ErrorActionPreference = 'Stop'
$server = Invoke-RestMethod "$Url/settings.json"
go env -w "GOPROXY=$Url" 'GONOPROXY=none' 'GOPRIVATE=' "GONOSUMDB=$($server.private -join ',')"
if ($server.sumdb -eq 'sum.golang.org') { go env -w 'GOSUMDB=sum.golang.org' }
if ($server.vulndb) { [Environment]::SetEnvironmentVariable('GOVULNDB', "$Url/vulndb", 'User') }
go env GOPROXY GONOSUMDB

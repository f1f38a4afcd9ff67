"""Graders of responses: mathematical answers, programs, and a judge. Free of torch and OpenRLHF."""

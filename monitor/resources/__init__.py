"""What the machine gives, and what rests while it gives too little: disk, battery, hours, cores."""

print("kontiki")
